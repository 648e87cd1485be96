"""Training and evaluation. Only :mod:`.run`, :mod:`.module` and :mod:`.callbacks` need Lightning."""
