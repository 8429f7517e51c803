"""Datasets of Gluon and GluonCV, read as `data.dataset.Dataset`, and the other way round."""
