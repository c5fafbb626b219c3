"""Files, memory, formats and the one reader of JSON: what touches the operating system."""
