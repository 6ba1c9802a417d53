"""Doing stored work: in this process, on local workers, on a cluster."""
