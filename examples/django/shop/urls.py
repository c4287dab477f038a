"""Where the pages are."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.index),
    path("orders", views.order),
    path("orders/<int:number>", views.show),
    path("orders/<int:number>/status", views.status),
    path("orders/<int:number>/picture", views.picture),
]
