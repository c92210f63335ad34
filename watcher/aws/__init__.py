"""AWS: sessions, accounts, and one module for each service. Vendor errors become ours here."""
