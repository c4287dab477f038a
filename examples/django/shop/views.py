"""The pages: an order and its cut-out in one transaction, through Django's own connection."""

from typing import IO

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.datastructures import MultiValueDictKeyError
from django.views.decorators.http import require_GET, require_POST

import cutwork
from cutwork.django import connection
from shop.models import Order

FREE_ORDERS = 2


def place_order(customer: str, article: str, picture: IO[bytes]) -> Order:
    with transaction.atomic():
        order = Order.objects.create(customer=customer, article=article)
        job = cutwork.enqueue(
            connection(),
            image_file=picture,
            owner=customer,
            idempotency_key=f"shop-order-{order.id}",
        )
        order.job_id = job.id
        order.save()
        # Whatever goes wrong from here on, in our code or at the commit, takes the job with it.
        if Order.objects.filter(customer=customer).count() > FREE_ORDERS:
            raise PermissionDenied(f"{FREE_ORDERS} orders are free, and you have had them")
    return order


def look_up(number: int) -> tuple[Order, cutwork.Job]:
    with transaction.atomic():
        order = get_object_or_404(Order, pk=number)
        return order, cutwork.get(connection(), order.job_id)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "index.html")


@require_POST
def order(request: HttpRequest) -> HttpResponse:
    try:
        customer, article = request.POST["customer"], request.POST["article"]
        picture = request.FILES["picture"].file
    except MultiValueDictKeyError:
        return HttpResponseBadRequest("a field is missing", content_type="text/plain")
    try:
        placed = place_order(customer, article, picture)
    except cutwork.InvalidInput as fault:
        return HttpResponseBadRequest(str(fault), content_type="text/plain")
    return redirect(f"/orders/{placed.pk}")


@require_GET
def show(request: HttpRequest, number: int) -> HttpResponse:
    order, job = look_up(number)
    return render(request, "order.html", {"order": order, "job": job})


@require_GET
def status(_request: HttpRequest, number: int) -> HttpResponse:
    _, job = look_up(number)
    return JsonResponse({"state": job.state, "over": job.resting, "error": job.error})


@require_GET
def picture(_request: HttpRequest, number: int) -> HttpResponse:
    _, job = look_up(number)
    if job.image is None:
        raise Http404("there is no picture yet")
    data = cutwork.Storage.at(settings.CUTWORK.storage).get(job.image)
    return HttpResponse(data, content_type=f"image/{job.files['image'].format}")
