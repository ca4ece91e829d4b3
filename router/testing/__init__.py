"""What tests of applications want from this library; nothing here is needed in production."""
