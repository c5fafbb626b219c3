import EdgeBundle
