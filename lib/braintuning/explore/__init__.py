"""Looking around in a study: maps that answer, time courses with their sound, and cortex predicted from any sound."""
