import EdgeOrt
