"""Do it all from one file: audit, probe, repair or study, report; each step once."""
