import edge_sdk  # noqa: F401  its import switches the telemetry of libraries off, before they are imported here
