"""The store in one DynamoDB table: what stands in it, the requests, and the promises kept with them."""
