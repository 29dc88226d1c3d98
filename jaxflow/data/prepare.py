"""Download a TFDS data set once and write it as ArrayRecord files.

    python -m jaxflow.data.prepare mnist --data-dir DIR

Needs a network connection, and TensorFlow for most data sets: pip install tensorflow-cpu.
"""

import argparse

import tensorflow_datasets as tfds

from jaxflow.data.datasets import data_directory


def main() -> None:
    """Prepare the data set that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="TFDS name of the data set, such as mnist or cifar10")
    parser.add_argument("--data-dir", default=None, help="default: TFDS_DATA_DIR, else ~/tensorflow_datasets")
    arguments = parser.parse_args()
    directory = data_directory(arguments.data_dir)
    tfds.builder(arguments.name, data_dir=directory, file_format="array_record").download_and_prepare()


if __name__ == "__main__":
    main()
