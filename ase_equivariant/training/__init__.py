"""Training and evaluation. Only :mod:`.fit`, :mod:`.module` and :mod:`.callbacks` need Lightning."""
