"""The scripts' output: grids of images, curves and tables."""
