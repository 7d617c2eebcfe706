"""Weights files on the Hugging Face Hub: fetching, describing, uploading."""
