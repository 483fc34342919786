"""The steps of a study, each of which reads files and writes one result."""
