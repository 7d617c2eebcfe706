"""Prediction: loading models, predictors, images in and out, and videos."""
