"""What shows a finding, one module for each flaw family: lines for people, example rows, and the rules for `marks`."""
