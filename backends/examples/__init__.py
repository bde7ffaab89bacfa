"""The models that transfers are shown on, as a user of each framework builds them."""
