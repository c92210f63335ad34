"""The store in one DynamoDB table. `store` is where to start, and `items` lists what the table holds."""
