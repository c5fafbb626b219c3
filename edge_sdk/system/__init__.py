"""What the operating system gives: files to read, and the one reader of JSON. Needs the standard library only."""
