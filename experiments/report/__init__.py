"""What scripts show: pages of images, curves and tables."""
