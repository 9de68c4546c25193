"""Tests; a package, as monai-generative installs one of the same name, which must not come first."""
