import EdgeModel
