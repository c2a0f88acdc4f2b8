"""RUN: scheduler, devices, sessions."""
