"""Recipes: functions of Atoms with a calculator, for any ASE calculator."""
