"""What several rooms count with: machine code, threads, neighbours, moments of samples."""
