"""What serve_load.py and serve_hostile.py share: the service as a process, and requests to it on this machine."""
