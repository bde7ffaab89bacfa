"""How each framework's models are run and watched for uses of layers."""
