"""Where arrays live: meshes and shardings, the mappings of a step to devices, processes, the compiler."""
