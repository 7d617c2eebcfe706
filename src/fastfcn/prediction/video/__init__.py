"""Videos in and out: frames with their times, sound as it is, cameras (PyAV, extra `video`)."""
