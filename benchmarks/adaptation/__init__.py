"""What adapting an encoder to the training images does to a classifier of its features."""
