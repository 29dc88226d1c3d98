"""Where arrays live: layouts over devices, the mappings of a step to them, processes, the compiler."""
