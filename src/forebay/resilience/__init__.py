"""How a call survives; what never fails needs nothing from here."""
