import EdgePhotos
