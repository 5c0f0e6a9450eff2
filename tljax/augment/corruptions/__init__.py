"""Corruptions of test images, computed on the device: noise, blur, weather and digital artefacts.

Source: Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions
and perturbations", with the five severities of its ImageNet-C.
"""
