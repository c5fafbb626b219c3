import EdgeZO
print(EdgeSdkError("not yet"))
