"""What `predict` and `fastfcn.load` work with: forms of images, the predictor, its predictions, files in and out."""
