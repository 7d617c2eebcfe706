"""The data doctor: what a folder of images and masks holds, what is wrong with it, and a clean copy of it."""
