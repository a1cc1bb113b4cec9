"""The version of the program; CHANGELOG.md says what each one brought."""

NAME = "language-guided-dml"
VERSION = "1.0.0"
