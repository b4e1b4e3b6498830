"""The flaws that an audit looks for, one folder each."""
