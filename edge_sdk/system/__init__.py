"""Files, memory and formats: what touches the operating system."""
