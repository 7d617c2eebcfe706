"""Video and camera input, and video output that keeps frame times and audio (PyAV, extra `video`)."""
