"""Active learning simulated: does it pay to choose which images to label?"""
