"""Pages: self-contained HTML files with one look, made of sections of blocks."""
