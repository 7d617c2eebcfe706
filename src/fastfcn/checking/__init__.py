"""Dataset validation: analyze a folder of images and masks, report problems, and write a corrected copy."""
