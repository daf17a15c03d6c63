"""Services: instances that live as long as their session."""
