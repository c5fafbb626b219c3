"""Files to read and the one reader of JSON. All but `safetensors` needs the standard library only."""
