# What a cloud provider would create, stood in for by the built-in terraform_data resource.

variable "environment" {
  type = string
}

variable "edge_address" {
  type        = string
  description = "Public address of the edges."
}

resource "terraform_data" "edge" {
  input = {
    environment = var.environment
    address     = var.edge_address
  }
}

output "edge_address" {
  value       = terraform_data.edge.output.address
  description = "What the A records of all routes point to."
}
