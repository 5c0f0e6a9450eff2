"""Ablations: experiments that differ in some fields, run side by side and compared in pairs."""
