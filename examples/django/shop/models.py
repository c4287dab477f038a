"""An order, with the id of the job that cuts out its picture."""

from django.db import models


class Order(models.Model):
    customer = models.CharField(max_length=200)  # cutwork says what is too long
    article = models.CharField(max_length=200)
    job_id = models.UUIDField(null=True)

    def __str__(self) -> str:
        return f"{self.article} for {self.customer}"
