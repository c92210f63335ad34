"""What an alert says: title, numbers that decided, job, cost, curve and log excerpt."""
