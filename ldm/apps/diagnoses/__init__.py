"""What `ldm doctor` looks at beyond versions: compilers, network, disks, loaders, limits.

Nothing heavy is imported here, and nothing that is found broken ends the report.
"""
