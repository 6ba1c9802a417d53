"""The process: starting it, security headers, loading ahead."""
